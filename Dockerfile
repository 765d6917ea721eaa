# The package of a laptop as an image, for machines with and without GPUs:
#
#     docker build --target cpu  -t factory:cpu .
#     docker build --target cuda -t factory:cuda .          # CUDA, and vLLM in an environment of its own
#     docker run --rm -v factory-home:/factory factory:cpu build --domain pathology
#     docker run --rm --gpus all --shm-size 16g -v factory-home:/factory factory:cuda build --domain pathology
#
# pip's own variables choose the index: --build-arg PIP_INDEX_URL=... (a mirror), --build-arg PIP_EXTRA_INDEX_URL=... (CPU builds of torch).
# Nothing is fetched when the image runs. It runs as user 10001, also with a read-only root, when /factory and /tmp can be written.
# Pin the bases by digest for builds that must repeat: --build-arg CUDA_BASE=nvidia/cuda@sha256:...

ARG CPU_BASE=python:3.11-slim-bookworm
ARG CUDA_BASE=nvidia/cuda:12.8.1-cudnn-devel-ubuntu24.04

# --- our code as a wheel: the only layer that changes with it is a small one ---
FROM ${CPU_BASE} AS wheel
ARG PIP_INDEX_URL
RUN pip install --no-cache-dir "setuptools>=77" wheel
# The whole tree: the links inside factory/ would dangle without the folders they point to.
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels /src

# --- machines without GPUs ---
FROM ${CPU_BASE} AS cpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# g++ and ninja: DeepSpeed compiles its operators on first use. bubblewrap: programs written by a model run in it.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ ninja-build bubblewrap \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 factory \
 && useradd --uid 10001 --gid 10001 --create-home factory \
 && install -d -o factory -g factory /factory
COPY pyproject.toml constraints.txt templates/containers/requirements.py /opt/build/
RUN python3 -m venv /opt/factory \
 && python3 /opt/build/requirements.py /opt/build/pyproject.toml all > /opt/build/requirements.txt \
 && /opt/factory/bin/pip install --no-cache-dir -c /opt/build/constraints.txt -r /opt/build/requirements.txt
COPY --from=wheel /wheels /opt/build/wheels
RUN /opt/factory/bin/pip install --no-cache-dir --no-deps /opt/build/wheels/*.whl
ENV PATH=/opt/factory/bin:$PATH FACTORY_HOME=/factory PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 \
    TORCH_EXTENSIONS_DIR=/tmp/torch-extensions HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /factory
ENTRYPOINT ["factory"]
CMD ["--help"]

# --- machines with GPUs: the CUDA compiler for DeepSpeed's operators, and vLLM apart, because its pins clash with the packs' libraries ---
FROM ${CUDA_BASE} AS cuda
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG VLLM=0.32.0
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ ninja-build bubblewrap \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 factory \
 && useradd --uid 10001 --gid 10001 --create-home factory \
 && install -d -o factory -g factory /factory
RUN python3 -m venv /opt/vllm \
 && /opt/vllm/bin/pip install --no-cache-dir "vllm==${VLLM}"
COPY pyproject.toml constraints.txt templates/containers/requirements.py /opt/build/
RUN python3 -m venv /opt/factory \
 && python3 /opt/build/requirements.py /opt/build/pyproject.toml all > /opt/build/requirements.txt \
 && /opt/factory/bin/pip install --no-cache-dir -c /opt/build/constraints.txt -r /opt/build/requirements.txt
COPY --from=wheel /wheels /opt/build/wheels
RUN /opt/factory/bin/pip install --no-cache-dir --no-deps /opt/build/wheels/*.whl
ENV PATH=/opt/factory/bin:$PATH FACTORY_HOME=/factory PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 \
    TORCH_EXTENSIONS_DIR=/tmp/torch-extensions HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 \
    FACTORY_VLLM_PYTHON=/opt/vllm/bin/python VLLM_NO_USAGE_STATS=1
USER 10001:10001
WORKDIR /factory
ENTRYPOINT ["factory"]
CMD ["--help"]
