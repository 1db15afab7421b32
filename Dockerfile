# syntax=docker/dockerfile:1
# The reference application with the framework. The environment is built in the first stage;
# the second holds no compiler and no package cache, and runs as an unprivileged user.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN python -m venv /opt/byodpp
COPY requirements/runtime.txt requirements/runtime.txt
RUN /opt/byodpp/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY byodpp byodpp
RUN /opt/byodpp/bin/pip install --no-deps --no-build-isolation --no-index . \
    && /opt/byodpp/bin/python -m compileall -q /opt/byodpp

FROM python:3.13-slim-bookworm
RUN groupadd --gid 1001 byodpp \
    && useradd --uid 1001 --gid 1001 --home-dir /app --no-create-home --shell /usr/sbin/nologin byodpp
COPY --from=build /opt/byodpp /opt/byodpp
WORKDIR /app
COPY --chown=1001:1001 resources.json ./
COPY --chown=1001:1001 resources resources
COPY --chown=1001:1001 config config
COPY --chown=1001:1001 logics logics
COPY --chown=1001:1001 schemas schemas
COPY --chown=1001:1001 migrations migrations
ENV PATH=/opt/byodpp/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BYODPP_ENV=prod \
    BYODPP_HOST=0.0.0.0 \
    PORT=3000
USER 1001:1001
EXPOSE 3000
# Asks the running server whether the database answers too; the slim image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["byodpp", "--app", "/app"]
CMD ["serve"]
