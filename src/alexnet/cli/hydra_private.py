"""All that is done with what Hydra does not document."""

from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus

from alexnet.errors import UserError


def share_store() -> None:
    """Hydra copies its store of configs, which it only reads, for each group and file: a third of --help."""

    def itself(store: ConfigStore, memo: object) -> ConfigStore:
        return store

    setattr(ConfigStore, "__deepcopy__", itself)  # noqa: B010 - the class declares no such method


def unknown_options(arguments: Sequence[str]) -> list[str]:
    """What Hydra's parser has no place for; raises UserError for a wrong use of the options that it has."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --hydra-help lists the options.")

    parser = get_args_parser()
    setattr(parser, "error", refuse)  # noqa: B010 - it would print and exit
    return parser.parse_known_args(list(arguments))[1]


def failure(job: JobReturn) -> Exception | None:
    """What ended a job of a sweep; return_value would raise it, and print more."""
    return job._return_value if job.status == JobStatus.FAILED else None
