"""The packages that the scripts need."""

import sys
from importlib.util import find_spec

PACKAGES = (
    *("torch", "numpy", "scipy", "sklearn", "pandas", "openpyxl"),
    *("mne", "edfio", "matplotlib", "jinja2", "tqdm", "safetensors"),
)


def require_packages() -> None:
    """End with one line if a package is missing. Scripts call it before they import anything that needs one."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        sys.exit(
            f"{', '.join(missing)}: not installed for {sys.executable}. Run `source .venv/bin/activate`, or install "
            "requirements.txt into a new environment first."
        )
