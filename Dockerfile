# One image for all processes: `luthierd api`, `luthierd worker`, `luthierd inference`, `luthierd migrate`.
# TORCH_INDEX selects PyTorch's CPU build. Set it to an empty string for the default CUDA build on GPU machines.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 10001 luthier \
 && mkdir -p /var/lib/luthier \
 && chown luthier /var/lib/luthier

WORKDIR /opt/luthier
COPY pyproject.toml constraints.txt README.md models.toml ./
COPY storage storage
COPY training training
COPY inference inference
COPY jobs jobs
COPY api api
COPY deploy deploy
COPY models models

RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -c constraints.txt torch \
 && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -c constraints.txt -e .

USER luthier
ENV LUTHIER_HOME=/var/lib/luthier LUTHIER_HOST=0.0.0.0 LUTHIER_PORT=8000
EXPOSE 8000
ENTRYPOINT ["luthierd"]
CMD ["api"]
