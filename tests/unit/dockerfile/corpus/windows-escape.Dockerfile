# escape=`
FROM mcr.example.org/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue';"]
RUN New-Item -ItemType Directory C:\app; `
    Invoke-WebRequest -Uri https://example.org/tool.zip -OutFile C:\app\tool.zip; `
    Expand-Archive C:\app\tool.zip -DestinationPath C:\app
COPY config.json C:\\app\\
WORKDIR C:\app
ENTRYPOINT ["C:\\app\\tool.exe"]
