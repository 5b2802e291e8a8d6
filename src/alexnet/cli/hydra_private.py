"""All that is done with what Hydra does not document."""

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus


def share_store() -> None:
    """Hydra copies its store of configs, which it only reads, for each group and file: a third of --help."""

    def itself(store: ConfigStore, memo: object) -> ConfigStore:
        return store

    setattr(ConfigStore, "__deepcopy__", itself)  # noqa: B010 - the class declares no such method


def failure(job: JobReturn) -> Exception | None:
    """What ended a job of a sweep; return_value would raise it, and print more."""
    return job._return_value if job.status == JobStatus.FAILED else None
