# The control plane, the controller, and the picker.
# Built at the root: docker build -f deploy/images/pointsman.Dockerfile .
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
COPY deploy/images/build.txt deploy/images/pointsman.txt locks/
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r locks/build.txt
# Without pip: what runs has no use for it.
RUN python -m venv --without-pip /opt/pointsman && \
    /build/bin/pip --python /opt/pointsman/bin/python install --no-cache-dir --require-hashes -r locks/pointsman.txt
COPY . .
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . && \
    /build/bin/pip --python /opt/pointsman/bin/python install --no-cache-dir --no-deps wheels/*.whl

FROM ${BASE}
COPY --from=build /opt/pointsman /opt/pointsman
ENV PATH=/opt/pointsman/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["pointsman"]
CMD ["--help"]
