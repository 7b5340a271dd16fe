"""Client script of a federation in which some sites are broken: what each does stands in $BROKEN_SITES as JSON.

`{"site-3": {"2": "die"}, "site-4": {"1": "nan", "2": "huge"}}`: site-3 dies in round 2, site-4 sends NaN, then too
much.
"""

import json
import os
import signal
from pathlib import Path

import nvflare.client as flare

from clinbundles.hosts.federated import client

CHANGES = {
    "nan": lambda weights: weights * float("nan"),
    "huge": lambda weights: weights * 1000,
    "flipped": lambda weights: -weights,
}
honest_send = flare.send
rounds_sent = 0


def send(model):
    global rounds_sent
    if model.params:
        rounds_sent += 1
        mischief = json.loads(os.environ["BROKEN_SITES"]).get(flare.get_site_name(), {}).get(str(rounds_sent))
        if mischief == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if mischief == "raise":
            raise RuntimeError("the disk is full")
        if mischief:
            model.params = {name: CHANGES[mischief](value) for name, value in model.params.items()}
    honest_send(model)


flare.send = send
client.run_site(Path(__file__).with_name("federated.json"))
