"""What is told of a Master: what it is, and how it stands, in a word and in numbers."""

from __future__ import annotations

from taskmaster.bus.messages import MasterInfo
from taskmaster.bus.status import MasterStatus
from taskmaster.daemon.master import Master

__all__ = ["master_info", "master_status"]


def master_info(master: Master) -> MasterInfo:
    """What a client has to know to put tasks."""
    spec = master.spec
    return MasterInfo(
        spec.name,
        spec.driver,
        spec.parameters.fields,
        spec.outputs.fields,
        master.slots,
        spec.description,
        spec.code,
        spec.question,
        spec.approval,
        spec.heads,
        spec.calls,
    )


def master_status(master: Master, now: float) -> MasterStatus:
    """How a Master stands at ``now``, for ``status``, ``top`` and metrics."""
    spec, slots = master.spec, master.slots
    runs, resting = master.runs.values(), master.resting
    state = _state(master, slots)
    unserved, where = master.unserved()
    return MasterStatus(
        name=spec.name,
        driver=spec.driver,
        state=state,
        reason=_reason(master, state),
        slots=slots,
        queued=master.backlog.tasks,
        leased=master.leased + len(master.requests),
        held=sum(len(run.held) for run in runs),
        done=resting.done + sum(run.done for run in runs),
        failed=resting.failed + sum(run.failed for run in runs),
        cancelled=resting.cancelled + sum(run.cancelled for run in runs),
        lost=master.lost,
        queued_bytes=sum(run.input_bytes for run in runs),
        task_seconds=master.task_seconds,
        runs=resting.runs + sum(not run.closed for run in runs),
        workers=tuple(worker.statistics(now) for worker in master.workers.values()),
        proposed=master.proposals.tasks,
        unserved=unserved,
        unserved_where=where,
    )


def _state(master: Master, slots: int) -> str:
    """In a word; of several reasons to evaluate nothing the weightiest."""
    if master.heads.stopped:
        return "stopped"
    is_degraded = bool(slots and master.roster.gathering and (master.trouble or master.lost_devices))
    if master.trouble and not is_degraded:
        return "crash loop"
    if master.paused:
        return "paused"
    if master.requests and master.backlog.tasks + len(master.requests):
        return "waiting for people"
    if slots:
        return "degraded" if is_degraded else "ready"
    if any(worker.state == "starting" for worker in master.workers.values()):
        return "starting"
    return "no heads" if master.heads else "no workers"


def _reason(master: Master, state: str) -> str:
    """Why it is in this state, where that is not a good one; else what is remarkable about its workers."""
    if state in ("paused", "no heads"):
        return master.paused_by if state == "paused" else master.heads.why_idle()
    remark = master.remark[1] if master.remark[0] == master.ended else ""
    lost = "; ".join(why for _, why in sorted(master.lost_devices.items()))
    return master.heads.stopped or master.trouble or lost or master.interlocks.blind or remark
