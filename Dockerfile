# portwatch beside Open vSwitch: ovs-ofctl, Python, portwatch and its locked dependencies; no compiler, no pip.
#
#   docker build -t portwatch:0.1.0 .        (or podman, or buildah; `make image-test` tries it without a Docker engine)
#
# The same input gives the same layers: dependencies come by hash, and times are those of SOURCE_DATE_EPOCH (buildah
# --timestamp; BuildKit: rewrite-timestamp). Debian's packages are those of the day: pin BASE by its digest, too.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get -q update \
 && apt-get -q -y install --no-install-recommends python3 python3-venv ca-certificates
WORKDIR /source
COPY requirements/build.txt requirements/run.txt requirements/
# Behind a proxy that looks into TLS: --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt, or wherever its authority is.
RUN --mount=type=secret,id=ca if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && python3 -m venv /build \
 && /build/bin/pip install -q --require-hashes --no-build-isolation -r requirements/build.txt \
 && /build/bin/pip wheel -q --require-hashes --no-build-isolation --no-deps -w /wheels -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Compiled without times and places, so that it is the same whenever it is built; and no scripts, which name this python.
RUN /build/bin/python -m hatchling build -t wheel -d /wheels \
 && /build/bin/pip install -q --no-index --no-deps --no-compile --target /opt/portwatch /wheels/*.whl \
 && rm -r /opt/portwatch/bin \
 && /build/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /opt -p /opt /opt/portwatch

FROM ${BASE}
# openvswitch-common is here for ovs-ofctl and ovs-appctl; its database server and tools stay out, as do logs and caches,
# which would differ from build to build.
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends python3 ca-certificates openvswitch-common \
 && rm -rf /usr/sbin/ovsdb-server /usr/bin/ovsdb-tool /usr/bin/ovsdb-client /usr/sbin/ovs-bugtool \
    /var/lib/apt/lists/* /var/cache/* /var/log/* /tmp/* /usr/share/doc/*/changelog* /usr/share/man /usr/share/locale
COPY --from=build /opt/portwatch /opt/portwatch
COPY LICENSE /usr/share/portwatch/LICENSE
COPY deploy/image/portwatch deploy/image/healthy /usr/local/bin/
RUN --mount=type=bind,source=deploy/image/inventory,target=/inventory /usr/bin/python3 -B /inventory /usr/share/portwatch

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="portwatch" \
      org.opencontainers.image.description="Port events and tunnel flows for Open vSwitch hypervisors, without a server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# For sockets of a group that it is given. Where they are root's (Debian), it is started as user 0, without any
# capability: see docs/deployment.md.
USER 65534:65534
ENTRYPOINT ["/usr/local/bin/portwatch"]
CMD ["run"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["/usr/local/bin/healthy"]
