FROM debian:bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends default-jdk-headless && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY <<EOF Main.java
public class Main {
    public static void main(String[] args) {
        System.out.println("java " + Runtime.version().feature());
    }
}
EOF
RUN javac Main.java && printf 'Main-Class: Main\n' > manifest && jar cfm app.jar manifest Main.class

FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends default-jre-headless && rm -rf /var/lib/apt/lists/*
COPY --from=build /work/app.jar /app.jar
ENV JAVA_OPTS=""
ENTRYPOINT exec java $JAVA_OPTS -jar /app.jar
