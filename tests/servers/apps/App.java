// Tells what Tomcat made of a request, and which of two servlets it chose.

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.valves.RemoteIpValve;

public class App {
    static class Teller extends HttpServlet {
        private final String handler;

        Teller(String handler) {
            this.handler = handler;
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            request.getInputStream().readAllBytes();
            Map<String, Object> seen = new TreeMap<>();
            for (String name : Collections.list(request.getHeaderNames())) {
                seen.put(name.toLowerCase(), Collections.list(request.getHeaders(name)));
            }
            seen.put("METHOD", request.getMethod());
            seen.put("SCHEME", request.getScheme());
            seen.put("SERVER", request.getServerName());
            seen.put("URI", request.getRequestURI());
            seen.put("PATH", request.getServletPath() + request.getPathInfo());
            seen.put("USER", request.getRemoteUser());
            seen.put("ADDRESS", request.getRemoteAddr());
            StringBuilder answer = new StringBuilder("handler=" + handler + "\n");
            seen.forEach((name, value) -> answer.append(name).append('=').append(value).append('\n'));
            response.setCharacterEncoding("UTF-8");
            response.getWriter().write(answer.toString());
        }
    }

    public static void main(String[] args) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(args[1]);
        tomcat.setPort(Integer.parseInt(args[0]));
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", null);
        context.getPipeline().addValve(new RemoteIpValve());
        for (String handler : new String[] {"hooks", "admin"}) {
            Tomcat.addServlet(context, handler, new Teller(handler));
            context.addServletMappingDecoded("/" + handler + "/*", handler);
        }
        tomcat.start();
        tomcat.getServer().await();
    }
}
