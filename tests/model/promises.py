"""What the product promises, in seconds, and what the judges allow it to spend on finding out."""

from tests.model.truth import Limits

LIMITS = Limits(3.0, 10.0, 15.0, 30.0)  # the defaults of serve_config.yaml
DEADLINE = 60.0
MARGIN = 0.25  # seconds that we may take for ourselves
LONGEST_OPEN = 120.0 * 1.2  # the longest open time, with its jitter
FIRST_OPEN = 60.0
LONGEST_REFUSED = 3600.0 * 1.2
OWN_FIRST, OWN_CAP = 10.0, 60.0  # open times on an ingress's own word
FORGOTTEN = 600.0  # then earlier trips are
THROTTLE_MOST = 300.0
LEASE = 35.0
PANIC = 2.0  # panic probes come once a second
PROBE = 20.0  # a probe's own answer, or the seconds of flow after which others follow it
RAMP = 60.0  # until a circuit that has closed has all its traffic again
LATE = 60.0  # a target must be back so long after its open time, and one request
LONG_WAIT = 5.0  # seconds for which a request should not wait at a tier that is known to hang ...
KNOWN = 60.0  # ... since so long
FEW = 3  # requests that a replica may spend on finding out
DETECTED = {"hang": 30.0, "slow": 30.0, "stall": 30.0, "mid-stream": 10.0}  # until a call in the fault has ended
