FROM debian:bookworm
ARG UID=1000
ARG GID=$UID
RUN groupadd -g ${GID} app && useradd -m -u ${UID} -g ${GID} -s /bin/bash app
WORKDIR /home/app
USER app:app
RUN touch mine && mkdir -p .config/app
VOLUME /home/app/data
ENV HOME=/home/app
CMD ["id"]
