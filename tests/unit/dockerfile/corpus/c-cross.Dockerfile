FROM --platform=$BUILDPLATFORM debian:bookworm AS cross
ARG TARGETPLATFORM TARGETARCH BUILDPLATFORM
RUN dpkg --add-architecture ${TARGETARCH} && apt-get update && \
    case "$TARGETPLATFORM" in \
      linux/arm64*) apt-get install -y gcc-aarch64-linux-gnu ;; \
      linux/arm/v7) apt-get install -y gcc-arm-linux-gnueabihf ;; \
      *) apt-get install -y gcc ;; \
    esac
COPY . /src
WORKDIR /src
RUN ./build.sh "$TARGETPLATFORM"
FROM --platform=$TARGETPLATFORM scratch
COPY --from=cross /src/out /
