FROM python:3.12 AS wheels
WORKDIR /wheels
COPY pyproject.toml setup.cfg* README* ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --wheel-dir /wheels .

FROM python:3.12-slim
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-index --find-links=/wheels app
USER nobody
ENTRYPOINT ["python", "-m", "app"]
