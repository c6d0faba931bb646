"""Times as Kubernetes writes them."""

import datetime as dt


def now(*, precise: bool = False) -> str:
    """The time: to the second as in statuses, or to the microsecond as in logs."""
    return moment(dt.datetime.now(dt.UTC), precise=precise)


def moment(when: dt.datetime, *, precise: bool = False) -> str:
    """A time in UTC."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if precise else "%Y-%m-%dT%H:%M:%SZ")
