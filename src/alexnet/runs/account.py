"""Weights & Biases with an account, or offline."""

from alexnet.errors import check_choice


def wandb_mode(offline: str | bool) -> str:
    """ "offline" or "online", out of auto, true or false; raises UserError for another value."""
    check_choice("logger.wandb.offline", offline, ("auto", True, False))
    return "offline" if offline is True or (offline == "auto" and not has_account()) else "online"


def has_account() -> bool:
    """Whether somebody is logged in to Weights & Biases here."""
    import wandb

    return wandb.login(prompt=False)
