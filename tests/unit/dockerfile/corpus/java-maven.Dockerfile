FROM maven:3.9-eclipse-temurin-21 AS build
WORKDIR /build
COPY pom.xml .
RUN --mount=type=cache,target=/root/.m2 mvn -B dependency:go-offline
COPY src ./src
RUN --mount=type=cache,target=/root/.m2 mvn -B -DskipTests package

FROM eclipse-temurin:21-jre
RUN useradd --system spring
USER spring:spring
ARG JAR_FILE=target/*.jar
COPY --from=build /build/${JAR_FILE} /app.jar
ENTRYPOINT ["java","-jar","/app.jar"]
