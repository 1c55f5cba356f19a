"""Stand for the folder `backends` of the repository, which a wheel installs as `coordfit/backends`.

So no package of another project can have its name, and none is put beside it.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends import *  # noqa: F403
else:
    _folder = Path(__file__).parents[1] / "backends"
    _spec = importlib.util.spec_from_file_location(
        __name__, _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
