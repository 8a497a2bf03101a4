# signcl on a CPU:
#   docker build -t signcl .
#   docker run --rm -v "$PWD/runs:/home/signcl/runs" signcl demo --quick
# For a GPU, build on a CUDA image with Python 3.11 or newer: --build-arg BASE=...
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN useradd --create-home signcl
WORKDIR /opt/signcl
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY recipes recipes
COPY signcl signcl
RUN pip install --no-cache-dir --constraint constraints.txt '.[lora,pose,serve,maps,elan]'
USER signcl
WORKDIR /home/signcl
ENV OMP_WAIT_POLICY=PASSIVE
ENTRYPOINT ["signcl"]
CMD ["--help"]
