FROM debian:bookworm AS data
RUN mkdir /data && echo content > /data/file

FROM debian:bookworm
RUN --mount=type=bind,from=data,source=/data,target=/mnt,readonly cp /mnt/file /file
RUN --mount=type=tmpfs,target=/scratch,size=16m echo x > /scratch/x && mount | grep -q ' /scratch '
RUN --mount=type=cache,target=/cache,id=counter,mode=0777 echo x >> /cache/log
RUN --mount=type=secret,id=token,required=false test ! -s /run/secrets/token
RUN --network=none ! getent hosts example.org
