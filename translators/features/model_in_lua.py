"""Finding the model in a request's body with a few lines of Lua inside Envoy.

Of the body no more is read than tells one key of the top level from another: strings are skipped to their ends, objects
and lists to their closing brackets, and what is within them is left to the model server to judge. So long prompts cost
little: the end of a string is looked for as memory is searched for a byte. Of RFC 8259's grammar the top level is held
to, and what is JSON is understood as its servers understand it: of several `model`s the last one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from translators.emit.packing import http_filter, pack
from translators.headers import EXAMINED, MODEL

NAME = "envoy.filters.http.lua/model"

LONGEST = 8192
"""How many bytes a model's name may have."""

PLAIN, NO_JSON, NO_NAME = "1", "no-json", "no-name"
"""What EXAMINED says of a body: nothing against it; that it is no JSON; that its `model` is no name.

A `model` that is null, a list or an object is none; one that is a number, a boolean, empty, too long, no UTF-8 or has
control characters is no name, and goes into no header.
"""

_READ, _MARK = "read", "mark"
_NAMES = f"""\
local EXAMINED, MODEL, LONGEST = "{EXAMINED}", "{MODEL}", {LONGEST}
local PLAIN, NO_JSON, NO_NAME = "{PLAIN}", "{NO_JSON}", "{NO_NAME}"
"""
_LUA = r"""
local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub
local QUOTE, BACKSLASH, BRACE, BRACKET, BRACE_END, BRACKET_END = 34, 92, 123, 91, 125, 93
local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }
local LITERALS = { ["true"] = true, ["false"] = true, ["null"] = true }

-- Return the place after a string, of which the first character is at this place; nil where it has no end.
local function after_string(text, place)
  while true do
    local quote = find(text, '"', place, true)
    if not quote then
      return nil
    end
    local before = quote - 1
    while byte(text, before) == BACKSLASH do
      before = before - 1
    end
    if (quote - before) % 2 == 1 then
      return quote + 1
    end
    place = quote + 1
  end
end

-- Return the place after the object or list that begins at this place; nil where it has no end.
local function after_nested(text, place)
  local depth = 0
  while true do
    local at = byte(text, place)
    place = place + 1
    if not at then
      return nil
    elseif at == QUOTE then
      place = after_string(text, place)
      if not place then
        return nil
      end
    elseif at == BRACE or at == BRACKET then
      depth = depth + 1
    elseif at == BRACE_END or at == BRACKET_END then
      depth = depth - 1
      if depth == 0 then
        return place
      end
    end
  end
end

-- Return the place after the value that begins at this place; nil where there is none.
local function after_value(text, place)
  local at = byte(text, place)
  if at == QUOTE then
    return after_string(text, place + 1)
  elseif at == BRACE or at == BRACKET then
    return after_nested(text, place)
  end
  local word = match(text, "^%a+", place)
  if word then
    return LITERALS[word] and place + #word
  end
  local after = match(text, "^-?0()", place) or match(text, "^-?[1-9]%d*()", place)
  after = after and (match(text, "^%.%d+()", after) or after)
  return after and (match(text, "^[eE][+-]?%d+()", after) or after)
end

local function utf8_of(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  local high = 0x80 + math.floor(code / 0x1000) % 0x40
  return char(0xF0 + math.floor(code / 0x40000), high, 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

-- Return what a string means, given what stands between its quotes; nil where an escape is none.
local function unescaped(written)
  if not find(written, "\\", 1, true) then
    return written
  end
  local parts, place = {}, 1
  while true do
    local slash = find(written, "\\", place, true)
    parts[#parts + 1] = sub(written, place, (slash or 0) - 1)
    if not slash then
      return table.concat(parts)
    end
    local code = match(written, "^u(%x%x%x%x)", slash + 1)
    if code then
      code, place = tonumber(code, 16), slash + 6
      local low = code >= 0xD800 and code < 0xDC00 and match(written, "^\\u([dD][c-fC-F]%x%x)", place)
      if low then
        code, place = 0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00, place + 6
      end
      parts[#parts + 1] = utf8_of(code)
    else
      local meant = ESCAPES[sub(written, slash + 1, slash + 1)]
      if not meant then
        return nil
      end
      parts[#parts + 1], place = meant, slash + 2
    end
  end
end

-- The Unicode Standard, table 3-7: well-formed sequences of more than one byte.
local SEQUENCES = {
  "^[\194-\223][\128-\191]()", "^\224[\160-\191][\128-\191]()", "^[\225-\236\238\239][\128-\191][\128-\191]()",
  "^\237[\128-\159][\128-\191]()", "^\240[\144-\191][\128-\191][\128-\191]()",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]()", "^\244[\128-\143][\128-\191][\128-\191]()",
}

local function is_utf8(text)
  local place = find(text, "[\128-\255]")
  while place do
    local after
    for _, sequence in ipairs(SEQUENCES) do
      after = after or match(text, sequence, place)
    end
    if not after then
      return false
    end
    place = find(text, "[\128-\255]", after)
  end
  return true
end

-- C0 controls and delete, and in UTF-8 the C1 controls.
local function is_name(text)
  local controls = find(text, "%c") or find(text, "\194[\128-\159]")
  return text ~= "" and #text <= LONGEST and not controls and is_utf8(text)
end

-- Return the value of the last `model` at the top level as it is written, if any, and whether the text is JSON there.
local function model_of(text)
  local place = match(text, "^\239\187\191[ \t\r\n]*()") or match(text, "^[ \t\r\n]*()")
  if byte(text, place) ~= BRACE then
    local after = after_value(text, place)
    return nil, after and match(text, "^[ \t\r\n]*$", after)
  end
  local model
  place = match(text, "^[ \t\r\n]*()", place + 1)
  local last = byte(text, place) == BRACE_END and place
  while not last do
    local colon = byte(text, place) == QUOTE and after_string(text, place + 1)
    local value = colon and match(text, "^[ \t\r\n]*:[ \t\r\n]*()", colon)
    local after = value and after_value(text, value)
    if not after then
      return nil, false
    end
    -- With an escape for each letter it has thirty.
    if colon - place <= 32 and unescaped(sub(text, place + 1, colon - 2)) == "model" then
      model = sub(text, value, after - 1)
    end
    place = match(text, "^[ \t\r\n]*,[ \t\r\n]*()", after)
    last = not place and match(text, "^[ \t\r\n]*()}", after)
    if not place and not last then
      return nil, false
    end
  end
  return model, match(text, "^}[ \t\r\n]*$", last)
end

-- Return what EXAMINED is to say of a body, and the model's name if there is one.
function examine(text)
  local model, is_json = model_of(text)
  if not is_json then
    return NO_JSON
  elseif not model or model == "null" or find(model, "^[{[]") then
    return PLAIN
  elseif byte(model) ~= QUOTE or #model > 6 * LONGEST + 2 then
    return NO_NAME
  end
  local name = unescaped(sub(model, 2, -2))
  if not name then
    return NO_JSON
  elseif not is_name(name) then
    return NO_NAME
  end
  return PLAIN, name
end

function envoy_on_request(handle)
  local body = handle:body()
  local headers = handle:headers()
  local outcome, name = PLAIN, nil
  if body and body:length() > 0 then
    outcome, name = examine(body:getBytes(0, body:length()))
  end
  if name then
    headers:replace(MODEL, name)
  end
  headers:replace(EXAMINED, outcome)
  handle:clearRouteCache()
end
"""
SCRIPT = _NAMES + _LUA
"""Defines `examine(text)`, which returns what EXAMINED is to say and the name, if any; and what Envoy calls."""

_MARKING = f"""\
function envoy_on_request(handle)
  handle:headers():replace("{EXAMINED}", "{PLAIN}")
  handle:clearRouteCache()
end
"""


def filters() -> tuple[hcm.HttpFilter, ...]:
    """Return the filter, which runs only where a route examines."""
    scripts = {_READ: SCRIPT, _MARK: _MARKING}
    sources = {name: core.DataSource(inline_string=script) for name, script in scripts.items()}
    return (http_filter(NAME, pack(lua.Lua(source_codes=sources)), disabled=True),)


@cache
def on_examining_route(*, read_body: bool) -> Mapping[str, Any]:
    """Return what makes a route examine requests."""
    return {NAME: pack(lua.LuaPerRoute(name=_READ if read_body else _MARK))}
