# escape=`
FROM debian:bookworm
RUN echo one `
 && echo 'two \ three' > /text
ENV A=a` b B="`$A" C=\n
CMD ["/bin/cat", "/text"]
