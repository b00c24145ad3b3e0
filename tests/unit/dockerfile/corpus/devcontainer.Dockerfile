FROM mcr.example.org/devcontainers/base:bookworm
ARG USERNAME=vscode
ARG INSTALL_ZSH="true"
RUN if [ "${INSTALL_ZSH}" = "true" ]; then apt-get update && export DEBIAN_FRONTEND=noninteractive \
    && apt-get -y install --no-install-recommends zsh; fi
RUN <<EOF
set -eu
echo "$USERNAME ALL=(root) NOPASSWD:ALL" > "/etc/sudoers.d/$USERNAME"
chmod 0440 "/etc/sudoers.d/$USERNAME"
EOF
USER $USERNAME
ENV SHELL=/bin/zsh EDITOR="code --wait"
