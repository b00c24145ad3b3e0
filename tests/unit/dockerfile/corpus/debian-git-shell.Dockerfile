FROM debian:bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
  && apt-get install -y --no-install-recommends git openssh-client \
  && rm -rf /var/lib/apt/lists/*
RUN git config --system init.defaultBranch main | tee /dev/null
RUN [[ "$(git config --system init.defaultBranch)" == main ]]
WORKDIR /repo
ENTRYPOINT ["git"]
