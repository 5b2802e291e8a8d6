"""Where the settings lie: conf/ of the checkout, or its copy in the installed package."""

from pathlib import Path

_CHECKOUT = Path(__file__).parents[2] / "conf"
CONF = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else Path(__file__).with_name("conf")
CLAIMS, SCALES = CONF / "claim", CONF / "scale"
