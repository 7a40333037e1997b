# ganlab for controller, workers and exporter alike; docs/slurm.md says how Apptainer and Enroot take it.
#   docker build --tag ganlab .                        with torch as the package index offers it: for GPUs, and for CPUs
#   docker build --tag ganlab --build-arg DEVICE=cpu . a fraction of the size; the index must offer torch's CPU builds
# Mirrors come by the build arguments PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS and PIP_CERT.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt /var/cache/ldconfig/*

# One layer each, the largest and least changing first: a new version of ganlab is a layer of a few megabytes.
ARG DEVICE=gpu
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CERT
ENV PATH=/opt/ganlab/bin:$PATH
COPY constraints.txt /opt/build/
RUN python3 -m venv /opt/ganlab \
 && version=$(sed -n 's/^torch==//p' /opt/build/constraints.txt) \
 && case "$DEVICE" in cpu) version="$version+cpu" ;; gpu) ;; *) echo "DEVICE=$DEVICE; allowed: cpu, gpu"; exit 2 ;; esac \
 && { pip install --no-cache-dir --disable-pip-version-check --constraint /opt/build/constraints.txt "torch==$version" \
      || { echo "torch $version is not offered here: name an index that has it by PIP_EXTRA_INDEX_URL, or the other DEVICE"; exit 1; }; }

COPY pyproject.toml /opt/build/
RUN python3 -c "import tomllib; print(*tomllib.load(open('/opt/build/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /opt/build/requirements.txt \
 && pip install --no-cache-dir --disable-pip-version-check --constraint /opt/build/constraints.txt \
        --requirement /opt/build/requirements.txt setuptools

COPY . /opt/build/ganlab
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation /opt/build/ganlab \
 && rm -rf /opt/build/ganlab/build /opt/build/ganlab/*.egg-info \
 && useradd --create-home --uid 1000 ganlab \
 && install --directory --owner=ganlab --mode=1777 /sweeps

# NVIDIA's container tools look for these two; without a GPU they mean nothing.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility MPLCONFIGDIR=/tmp/matplotlib
USER ganlab
WORKDIR /sweeps
HEALTHCHECK --interval=30s --timeout=30s CMD ["ganlab", "--version"]
ENTRYPOINT ["tini", "--", "ganlab"]
CMD ["--help"]

ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="ganlab" \
      org.opencontainers.image.description="How diverse are the images of a generative model?" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
