"""The BentoML service: one route, one worker, no pickles.

BentoML loads this module in its worker process; `python -m serving` starts it and hands the
settings over through the environment. The route is a mounted ASGI application instead of a
`bentoml.api` method: BentoML's own body parsing also accepts pickles, knows no size limit and
answers contract errors in another form.
"""

from __future__ import annotations

import bentoml
from starlette.applications import Starlette

from serving.deployment import LiveDeployment, from_registry
from serving.environment import from_environment
from serving.routes import ROUTES, Front

app = Starlette(routes=list(ROUTES))


@bentoml.asgi_app(app, path="/")
@bentoml.service(name="amiral", workers=1, logging={"access": {"enabled": False}})
class Amiral:
    """Scores signals with the registry's newest candidate."""

    def __init__(self) -> None:
        settings, layout = from_environment()
        self._live = LiveDeployment(from_registry(settings, layout), settings.serving.refresh_s)
        app.state.front = Front(settings.serving, self._live)
        self._live.start()

    def __is_ready__(self) -> bool:
        """Say whether the first look at the registry is over."""
        return self._live.looked

    @bentoml.on_shutdown
    def close(self) -> None:
        """Stop following the registry."""
        self._live.stop()
