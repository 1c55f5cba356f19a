"""Configure the site: `python -m sphinx -W --keep-going -b html docs docs/_build/html`.

With COORDFIT_DOCS_RUN=0 no program of the gallery and no notebook is run.
COORDFIT_DOCS_VERSION names the folder of a published site, `dev` or `0.2`, and adds the list of versions.
"""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from coordfit import __version__  # noqa: E402

_URLS = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
_RUNS = os.environ.get("COORDFIT_DOCS_RUN", "1") != "0"
_FOLDER = os.environ.get("COORDFIT_DOCS_VERSION", "")

project = "coordfit"
author = "The coordfit developers"
copyright = author
version = release = __version__
language = "en"
smartquotes = False  # `--option` stays as it is typed

templates_path = ["_templates"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "generated_pages",
    "repository_links",
    "docstring_names",
]
exclude_patterns = ["_build", "jupyter_execute", "gallery", "examples/*.ipynb", "**.ipynb_checkpoints"]
nitpicky = True
default_role = "code-or-link"

# -- pages -------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache" if _RUNS else "off"
suppress_warnings = [] if _RUNS else ["myst-nb.lexer"]  # only a run tells the language of a Markdown notebook
nb_execution_timeout = 120
nb_execution_raise_on_error = True
repository_url = _URLS["Repository"]
repository_branch = "main"
copybutton_exclude = ".linenos, .gp, .go"

# -- programs with pictures --------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["examples"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "gallery_order.place",
    "download_all_examples": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,
    "show_memory": False,
    "write_computation_times": False,
    "plot_gallery": _RUNS,
    "abort_on_example_error": True,
}

# -- docstrings --------------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# -- the site ----------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "coordfit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_baseurl = f"{_URLS['Documentation'].rstrip('/')}/{_FOLDER or 'dev'}/"
html_theme_options = {
    "logo": {"text": "coordfit"},
    "icon_links": [{"name": "Repository", "url": _URLS["Repository"], "icon": "fa-brands fa-github"}],
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {name: [] for name in ("index", "quick_start", "tutorial", "results", "contributing")}
if _FOLDER:
    html_theme_options["switcher"] = {
        "json_url": f"{_URLS['Documentation'].rstrip('/')}/switcher.json",
        "version_match": _FOLDER,
    }
    html_theme_options["check_switcher"] = False  # the workflow writes it after the build
    html_theme_options["navbar_end"] = ["version-switcher", "theme-switcher", "navbar-icon-links"]
