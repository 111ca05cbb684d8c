# The environment of requirements.lock, and the clone. It has not been built where Tauflow is developed, which has no
# Docker; its steps are those of `make setup`, which are tested.
#
#   docker build -t tauflow .
#   docker run --rm -it -v "$PWD":/work -w /work tauflow tauflow plan       # in a study of `tauflow init`
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD":/work -w /work tauflow tauflow repro
FROM python:3.13-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /tauflow
COPY requirements.lock pyproject.toml Makefile README.md LICENSE ./
COPY tools/wheel_template.py tools/wheel_template.py
COPY tauflow tauflow
RUN make setup
COPY . .

ENV PATH="/tauflow/.venv/bin:$PATH"
# A mounted study belongs to the user outside.
RUN git config --system --add safe.directory '*'
CMD ["tauflow", "--help"]
