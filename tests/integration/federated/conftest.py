import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("nvflare", reason="federated training needs the extra `federated`")
