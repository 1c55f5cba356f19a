"""Put a built site into a folder of the published ones.

Run as `python .ci/publish_site.py BUILT PUBLISHED VERSION URL`. PUBLISHED has a folder for each version, `dev`
or `0.2`, `switcher.json` with the list of them, and an `index.html` that leads to the newest release, or to
`dev` before the first one.
"""

import json
import re
import shutil
import sys
from pathlib import Path

_REDIRECT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>coordfit</title>
<meta http-equiv="refresh" content="0; url={version}/">
<a href="{version}/">coordfit</a>
</html>
"""


def publish(built: Path, published: Path, version: str, url: str) -> None:
    """Replace the folder of a version, and write what lists all of them."""
    if not re.fullmatch(r"dev|\d+\.\d+", version):
        raise ValueError(f"a version is dev, or two numbers such as 0.2, not {version!r}")
    shutil.rmtree(published / version, ignore_errors=True)
    shutil.copytree(built, published / version, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
    releases = [path.name for path in published.iterdir() if re.fullmatch(r"\d+\.\d+", path.name)]
    releases.sort(key=lambda name: [int(number) for number in name.split(".")], reverse=True)
    names = [*releases, *(["dev"] if (published / "dev").exists() else [])]
    listed = [{"version": name, "url": f"{url.rstrip('/')}/{name}/"} for name in names]
    if releases:
        listed[0] |= {"name": f"{releases[0]} (newest)", "preferred": True}
    (published / "switcher.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    (published / "index.html").write_text(_REDIRECT.format(version=names[0]), encoding="utf-8")
    (published / ".nojekyll").touch()


if __name__ == "__main__":
    built, published, version, url = sys.argv[1:]
    publish(Path(built), Path(published), version, url)
