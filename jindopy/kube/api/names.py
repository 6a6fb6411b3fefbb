"""Names that Fluid's users and objects share.  P."""

from __future__ import annotations

from typing import Final

GROUP: Final = "data.fluid.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "data.fluid.io/v1alpha1"
CATEGORY: Final = "fluid"  # kubectl get fluid
