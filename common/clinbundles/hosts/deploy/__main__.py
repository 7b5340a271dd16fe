"""The command `python -m clinbundles.hosts.deploy`."""

from __future__ import annotations

import sys

from clinbundles.hosts.deploy.command_line import main

sys.exit(main())
