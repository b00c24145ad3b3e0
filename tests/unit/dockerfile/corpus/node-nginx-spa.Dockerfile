FROM node:20 as build-stage
WORKDIR /app
COPY package.json package-lock.json /app/
RUN npm install
COPY ./ /app/
ARG API_URL=https://api.example.org
ENV VITE_API_URL=${API_URL}
RUN npm run build

FROM nginx:1.27
COPY --from=build-stage /app/dist/ /usr/share/nginx/html
COPY ./nginx.conf /etc/nginx/conf.d/default.conf
COPY ./nginx-backend-not-found.conf /etc/nginx/extra-conf.d/backend-not-found.conf
