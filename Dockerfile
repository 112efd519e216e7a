# The proxy alone. Give it its folder, read-only but for the log:
#   docker build -t counterfoil .
#   docker run --read-only --tmpfs /tmp -p 8443:8443 -v "$PWD/etc:/etc/counterfoil:ro" -v counterfoil-log:/var/lib/counterfoil counterfoil
# /etc/counterfoil/counterfoil.yaml says `listen: {host: 0.0.0.0, …}` and `log: /var/lib/counterfoil/access.db`.
# It runs as uid 10001, to whom the files of keys and secrets in etc must belong.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/counterfoil
WORKDIR /src
COPY locks/build.txt locks/runtime.txt locks/
RUN /opt/counterfoil/bin/pip install --require-hashes --only-binary :all: -r locks/runtime.txt \
 && pip install --require-hashes --only-binary :all: -r locks/build.txt
COPY pyproject.toml setup.py ./
COPY proxy proxy
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /tmp/wheels . \
 && /opt/counterfoil/bin/pip install --no-index --no-deps /tmp/wheels/*.whl \
 && /opt/counterfoil/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin counterfoil \
 && install -d -o counterfoil -g counterfoil -m 0700 /var/lib/counterfoil
COPY --from=build /opt/counterfoil /opt/counterfoil
ENV PATH=/opt/counterfoil/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/counterfoil
VOLUME /var/lib/counterfoil
EXPOSE 8443
STOPSIGNAL SIGTERM
# Asked from within, where the certificate's name is not 127.0.0.1: only whether the proxy answers matters. Where
# `listen.clients` demands certificates, give a check of your own: it has none.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "import http.client as h, ssl; c = h.HTTPSConnection('127.0.0.1', 8443, timeout=2, context=ssl._create_unverified_context()); c.request('GET', '/-/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["counterfoil"]
CMD ["serve", "--config", "/etc/counterfoil/counterfoil.yaml"]
