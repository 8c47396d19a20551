"""Who a run and its acquisitions belong to (SPEC 4.1): the life of the storage that created or took them over."""

from __future__ import annotations

from storage_protocol import commands, errors
from storage_protocol.errors import Refusal

from .lifecycle import allowed
from .state import Acq, Run, State, Storage


def the_storage(state: State, storage_id: str) -> Storage | Refusal:
    found = state.storage(storage_id)
    return found if found is not None else errors.not_found("storage", storage_id)


def run_id_of(storage: Storage, run_name: str) -> str:
    return f"{storage.group_id}/{run_name}"


def is_orphan(state: State, run: Run) -> bool:
    """Whether the storage that the run belongs to is gone, also when its id came again."""
    owner = state.storage(run.storage_id)
    return owner is None or owner.uid != run.owner


def anothers(run: Run) -> Refusal:
    message = f"The run {run.node_id} belongs to the storage {run.storage_id}."
    return errors.already_exists("run", run.node_id, message)


def own_run(state: State, storage: Storage, run_id: str) -> Run | Refusal:
    """The run, if it belongs to this storage: else it is not found."""
    run = state.run(run_id)
    if run is None or run.owner != storage.uid:
        return errors.not_found("run", run_id)
    return run


def own_acq(
    state: State, storage_id: str, acq_id: str, uid: str | None, segment: int | None
) -> tuple[Acq, bool] | Refusal:
    """The acquisition, if it belongs to this storage, and whether `uid` and `segment` fit the present one."""
    storage = state.storage(storage_id)
    if storage is None:
        return errors.not_found("storage", storage_id)
    acq = state.acq(acq_id)
    run = state.run(acq.run_id) if acq is not None else None
    if acq is None or run is None or run.owner != storage.uid:
        return errors.not_found("acquisition", acq_id)
    return acq, (uid is None or uid == acq.uid) and (segment is None or segment == acq.segment)


def fitting_acq(
    state: State, command: commands.SetParamAcq | commands.CloseAcq | commands.AbortAcq
) -> Acq | Refusal:
    """The acquisition that the command names, if it belongs to its storage and is the present one."""
    found = own_acq(state, command.storage_id, command.acq_id, command.uid, command.segment)
    if isinstance(found, Refusal):
        return found
    acq, fits = found
    return acq if fits else misfit(acq)


def misfit(acq: Acq) -> Refusal:
    message = (
        f"The acquisition {acq.node_id} is now uid {acq.uid}, segment {acq.segment}; "
        "the uid or segment that was given is another one's."
    )
    return errors.not_found("acquisition", acq.node_id, message)


def wrong_storage_state(storage: Storage, command: str) -> Refusal:
    here = allowed("storage", storage.state)
    message = f"The storage {storage.storage_id} is {storage.state}; {command} is not possible there."
    return errors.wrong_state("storage", storage.storage_id, storage.state, here, message)


def wrong_acq_state(acq: Acq, command: str) -> Refusal:
    here = allowed("acquisition", acq.state)
    message = f"The acquisition {acq.node_id} is {acq.state}; {command} is not possible there."
    return errors.wrong_state("acquisition", acq.node_id, acq.state, here, message)
