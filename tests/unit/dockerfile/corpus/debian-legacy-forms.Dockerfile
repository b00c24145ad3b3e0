from debian:bookworm
MAINTAINER Somebody <somebody@example.org>
ENV PATH /opt/bin:$PATH
ENV   greeting   hello   there
LABEL description some text without quotes
ADD --chmod=644 <<EOF /etc/motd
welcome
EOF
run echo old   \
    # a comment in between

    && echo style
cmd echo $greeting
