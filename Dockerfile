# The same package as on a laptop, on a CUDA base. Build: docker build -t factory .   Run: docker run --gpus all -v $PWD/home:/home/factory/home factory build --domain pathology
FROM nvidia/cuda:12.8.1-cudnn-devel-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 FACTORY_HOME=/home/factory/home OMP_NUM_THREADS=1
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ ninja-build \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home factory \
 && python3 -m venv /opt/factory && chown -R factory /opt/factory
USER factory
ENV PATH=/opt/factory/bin:$PATH
# The whole tree: the links inside factory/ would dangle without the folders they point to.
COPY --chown=factory . /home/factory/src
RUN pip install -c /home/factory/src/constraints.txt "/home/factory/src[all]"
WORKDIR /home/factory
ENTRYPOINT ["factory"]
CMD ["--help"]
