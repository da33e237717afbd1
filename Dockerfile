# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY storage storage
COPY hub hub
RUN python -m venv /opt/krin && /opt/krin/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 krin && mkdir -p /data/keys && chown -R krin /data
COPY --from=build /opt/krin /opt/krin
USER krin
ENV PATH=/opt/krin/bin:$PATH KRIN_HOST=0.0.0.0 KRIN_PORT=8000 KRIN_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
CMD ["krin", "serve"]
