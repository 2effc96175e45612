"""Start the agents beside what is served already: `python start.py`, in this folder.

Not `serve run`: when that fails, it ends all of Serve, Breakwater included.
"""

import ray
from meetmind import app
from ray import serve

if __name__ == "__main__":
    # What is in this folder goes to the replicas.
    ray.init(address="auto", runtime_env={"working_dir": "."}, log_to_driver=False)
    serve.run(app, name="agents", route_prefix="/agents")
