"""What Argo CD has to know of the resources: how healthy one is, by the scripts in charts/haqa/argocd.

`python -m haqa_operator.api.argocd` puts them into one patch for Argo CD's settings.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

from haqa_operator.api.base import API_GROUP

FOLDER = Path(__file__).parents[3] / "charts" / "haqa" / "argocd"
"""The scripts lie there as in Argo CD's own repository: resource_customizations/GROUP/KIND/health.lua."""
SETTINGS = FOLDER / "argocd-cm.yaml"

_HEADER = """\
# Made from resource_customizations/ by `make generate`; changes go there.
#   kubectl -n argocd patch configmap argocd-cm --patch-file argocd-cm.yaml
data:
"""


def scripts() -> dict[str, str]:
    """Kind -> Lua that says how healthy an object of it is."""
    found = sorted((FOLDER / "resource_customizations" / API_GROUP).glob("*/health.lua"))
    return {path.parent.name: path.read_text(encoding="utf-8") for path in found}


def settings_patch() -> str:
    """A patch for the ConfigMap argocd-cm, as YAML."""
    entries = (
        f"  resource.customizations.health.{API_GROUP}_{kind}: |\n{indent(lua, '    ')}"
        for kind, lua in scripts().items()
    )
    return _HEADER + "".join(entries)


if __name__ == "__main__":
    SETTINGS.write_text(settings_patch(), encoding="utf-8")
