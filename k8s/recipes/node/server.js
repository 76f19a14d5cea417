// A stand-in for your application: takes webhooks on loopback and says what it got.
const server = require("http").createServer((request, response) => {
  const body = [];
  request.on("data", (part) => body.push(part));
  request.on("end", () => {
    const route = request.headers["hookgate-route"];
    if (route) console.log(route, request.url, Buffer.concat(body).length, "bytes");
    response.end("thank you\n");
  });
});
server.listen(process.env.PORT, process.env.HOST);
process.on("SIGTERM", () => server.close());
