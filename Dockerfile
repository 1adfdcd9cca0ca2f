# The studio in a container: docs/studio.md. TORCH_INDEX is an index with other builds of torch, such as those without CUDA.
FROM python:3.11-slim
ARG TORCH_INDEX=""
RUN useradd --create-home --uid 1000 nst && mkdir -p /work/outputs && chown -R nst /work
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE.md ./
COPY configs configs
COPY nst nst
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt '.[studio]'
USER nst
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["python", "-m"]
CMD ["nst.studio", "--host", "0.0.0.0"]
