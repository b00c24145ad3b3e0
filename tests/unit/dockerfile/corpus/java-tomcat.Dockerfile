FROM tomcat:10.1-jdk21
LABEL maintainer = "team@example.org"
RUN rm -rf /usr/local/tomcat/webapps/*
ADD target/site.war /usr/local/tomcat/webapps/ROOT.war
ENV CATALINA_OPTS="-Xms512m -Xmx1024m -Dfile.encoding=UTF-8"
EXPOSE 8080 8009
CMD ["catalina.sh", "run"]
