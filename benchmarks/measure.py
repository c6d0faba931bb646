"""Rounds of load: in each round every line is measured once in every case, next to the bare gateway."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks import load, prompts
from benchmarks.processes import cpu_seconds

CONNECTIONS = (1, 16)
SIZES = {"600 B": 600, "220 KB": 220_000}
# One round in so many measures the checks too.
_CHECKED = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Something to measure: requests for `model` go to `url`; CPU time is read of `pids`, by role.

    A line that is measured only now and then (`check`) is no subject of the benchmark, but a condition of it.
    """

    name: str
    url: str
    model: str
    pids: Mapping[str, int]
    check: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load, with so many pods."""

    pods: int
    prompt: str
    connections: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `cpu` is in microseconds a request, by role; `ratio` is to the bare rate of its round."""

    line: str
    case: Case
    round: int
    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]
    ratio: float = 0.0
    check: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of a line's samples in one case, and the lowest and highest ratio."""

    line: str
    case: Case
    rate: float
    ratio: float
    lowest: float
    highest: float
    p50: float
    p99: float
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how often, and how: `model_last` puts the model's name at the end of the request."""

    rounds: int
    seconds: int
    model_last: bool = False


def cases(pods: int, *, alone: bool) -> Iterator[Case]:
    """Yield the kinds of load in the order in which they are shown; `alone`: with a single connection too."""
    for prompt in SIZES:
        for connections in CONNECTIONS:
            if alone or connections == max(CONNECTIONS):
                yield Case(pods, prompt, connections)


def measure(
    program: str, bare: Line, lines: Sequence[Line], plan: Plan, cases: Sequence[Case], told: Callable[[str], None]
) -> list[Sample]:
    """Run all rounds. The order of the lines turns round with each, so that no line is always the one after another."""
    samples: list[Sample] = []
    for number in range(plan.rounds):
        present = [line for line in (bare, *lines) if number % _CHECKED == 0 or not line.check]
        if number % 2:
            present.reverse()
        for case in cases:
            told(f"round {number + 1} of {plan.rounds}: {case.prompt}, {case.connections} connections")
            taken = [_sample(program, line, case, plan, number) for line in present]
            base = next(sample.rate for sample in taken if sample.line == bare.name)
            samples += [_with_ratio(sample, base) for sample in taken]
    return samples


def results(samples: Sequence[Sample]) -> list[Result]:
    """Return the medians, in the order of the cases and, in each, of the lines."""
    together: dict[tuple[Case, str], list[Sample]] = {}
    for sample in samples:
        together.setdefault((sample.case, sample.line), []).append(sample)
    checks = {sample.line for sample in samples if sample.check}
    # Checks are shown last, though they are measured beside the first subject.
    lines = sorted(dict.fromkeys(sample.line for sample in samples), key=lambda line: line in checks)
    cases = dict.fromkeys(sample.case for sample in samples)
    return [_result(together[case, line]) for case in cases for line in lines if (case, line) in together]


def _sample(program: str, line: Line, case: Case, plan: Plan, number: int) -> Sample:
    body = prompts.chat(line.model, SIZES[case.prompt], number=number, model_last=plan.model_last)
    before = {role: cpu_seconds(pid) for role, pid in line.pids.items()}
    answered = load.run(program, load.Load(line.url, body, case.connections, plan.seconds))
    cpu = {"wrk": answered.cpu * 1e6 / answered.requests}
    for role, pid in line.pids.items():
        began, ended = before[role], cpu_seconds(pid)
        if began is not None and ended is not None:
            cpu[role] = (ended - began) * 1e6 / answered.requests
    return Sample(line.name, case, number, answered.rate, answered.p50, answered.p99, cpu, check=line.check)


def _with_ratio(sample: Sample, base: float) -> Sample:
    return replace(sample, ratio=sample.rate / base)


def _result(samples: Sequence[Sample]) -> Result:
    ratios = [sample.ratio for sample in samples]
    return Result(
        line=samples[0].line,
        case=samples[0].case,
        rate=median(sample.rate for sample in samples),
        ratio=median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        p50=median(sample.p50 for sample in samples),
        p99=median(sample.p99 for sample in samples),
        cpu={role: median(sample.cpu.get(role, 0.0) for sample in samples) for role in samples[0].cpu},
    )
