"""Reading from an answer which model gave it and how many tokens it took: what its JSON, or a stream's events, say.

A few lines of Lua watch the answer pass, hold nothing back and keep only its end. What they find goes with the
request's metadata to the access log, so that the picker is told once and has nothing to do for each event of a stream.
docs/decisions/0006-reading-token-usage.md compares the ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from translators.emit.packing import http_filter, pack
from translators.headers import ANSWERED, POINTSMAN, USAGE
from translators.settings import Settings

NAME = "envoy.filters.http.lua/usage"

_SCRIPT = "usage"
_LUA = f"""\
-- `model` stands near the beginning, and `usage` near the end: of each of the last pieces no more than its end is kept.
local BEGINNING, KEPT, PIECES = 512, 4096, 8

function envoy_on_response(handle)
  local kind = handle:headers():get("content-type")
  if kind == nil or not kind:find("^application/json") and not kind:find("^text/event%-stream") then
    return
  end
  local pieces, count = {{}}, 0
  for piece in handle:bodyChunks() do
    local length = piece:length()
    if length > 0 then
      if count == 0 then
        local model = piece:getBytes(0, math.min(length, BEGINNING)):match('"model"%s*:%s*"([^"\\\\]+)"')
        if model then
          handle:streamInfo():dynamicMetadata():set("{POINTSMAN}", "{ANSWERED}", model)
        end
      end
      local from = length > KEPT and length - KEPT or 0
      pieces[count % PIECES + 1] = piece:getBytes(from, length - from)
      count = count + 1
    end
  end
  if count == 0 then
    return
  end
  local last = (count - 1) % PIECES + 1
  local text = table.concat(pieces, "", last + 1, #pieces) .. table.concat(pieces, "", 1, last)
  -- Quotes within a string have a backslash before them: what a model writes is not taken for this.
  local at, found = 0, 0
  repeat
    found = at
    at = text:find('"usage"', at + 1, true)
  until at == nil
  local usage = found > 0 and text:match('^"usage"%s*:%s*(%b{{}})', found)
  if usage then
    handle:streamInfo():dynamicMetadata():set("{POINTSMAN}", "{USAGE}", usage)
  end
end
"""


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter, which runs only where a route says so."""
    script = lua.Lua(source_codes={_SCRIPT: core.DataSource(inline_string=_LUA)})
    return (http_filter(NAME, pack(script), disabled=True),)


@lru_cache(maxsize=1)
def on_route() -> Mapping[str, Any]:
    """Return what makes a route read the usage, or an examining route put the filter into the request's chain."""
    return {NAME: pack(lua.LuaPerRoute(name=_SCRIPT))}
