package cellseg.testhost;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UnsupportedEncodingException;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Runs macros and scripts in one ImageJ, asked line by line on standard input.
 *
 * A request is a line of URL-encoded pairs with an id and what to do; each runs in a thread of its
 * own, as a click would, so that one can cancel another. The answer is such a line too. What was
 * printed and logged goes into the next answer.
 */
public final class Server {

    /** One way of running ImageJ. */
    interface Host {

        /** Starts ImageJ. */
        void start() throws Exception;

        /** Runs one script file and gives its outputs. */
        Map<String, String> runScript(String path, Map<String, String> inputs) throws Exception;
    }

    private static final String UTF_8 = StandardCharsets.UTF_8.name();
    private static final String INPUT = "in.";
    private static final ByteArrayOutputStream PRINTED = new ByteArrayOutputStream();

    private final Host host;
    private final PrintStream answers;

    private Server(final Host host, final PrintStream answers) {
        this.host = host;
        this.answers = answers;
    }

    /** Starts the host named by the first argument, "fiji" or "imagej", and serves it. */
    public static void main(final String[] arguments) throws Exception {
        final PrintStream answers = System.out;
        final PrintStream captured = new PrintStream(PRINTED, true, UTF_8);
        System.setOut(captured);
        System.setErr(captured); // where SciJava logs the errors of scripts
        final String name = arguments.length > 0 ? arguments[0] : "fiji";
        final Host host = name.equals("imagej") ? new PlainHost() : new FijiHost();
        host.start();
        Requests.runPython("result = 1"); // two threads that load Jython at once can block for ever
        new Server(host, answers).serve();
        System.exit(0); // threads of AWT and SciJava would keep it alive
    }

    private void serve() throws IOException {
        final Map<String, String> ready = new LinkedHashMap<>();
        ready.put("id", "0");
        answer(ready);
        final BufferedReader requests =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            final Map<String, String> request = decode(line);
            // ImageJ knows the threads of macros by the end of their names, and aborts those only.
            final String name = "Request " + request.get("id")
                + ("macro".equals(request.get("do")) ? "_Macro$" : "");
            final Thread thread = new Thread(() -> handle(request), name);
            thread.setDaemon(true);
            thread.start();
        }
    }

    private void handle(final Map<String, String> request) {
        final Map<String, String> answer = new LinkedHashMap<>();
        answer.put("id", request.get("id"));
        try {
            answer.putAll(run(request));
        } catch (final Throwable problem) { // the test is told of any
            final StringWriter trace = new StringWriter();
            problem.printStackTrace(new PrintWriter(trace));
            answer.put("error", trace.toString());
        }
        try {
            answer(answer);
        } catch (final IOException problem) {
            throw new IllegalStateException(problem);
        }
    }

    private Map<String, String> run(final Map<String, String> request) throws Exception {
        final Map<String, String> answer = new LinkedHashMap<>();
        final String what = request.get("do");
        if ("macro".equals(what)) {
            final String given = Requests.runMacro(request.get("text"), request.get("argument"));
            if (given != null) {
                answer.put("result", given);
            }
        } else if ("python".equals(what)) {
            answer.put("result", Requests.runPython(request.get("text")));
        } else if ("script".equals(what)) {
            final Map<String, String> inputs = new LinkedHashMap<>();
            request.forEach((key, value) -> {
                if (key.startsWith(INPUT)) {
                    inputs.put(key.substring(INPUT.length()), value);
                }
            });
            host.runScript(request.get("path"), inputs)
                .forEach((key, value) -> answer.put("out." + key, value));
        } else {
            throw new IllegalArgumentException(
                "\"" + what + "\" was asked for; known are macro, python and script.");
        }
        return answer;
    }

    private void answer(final Map<String, String> pairs) throws IOException {
        synchronized (answers) {
            synchronized (PRINTED) {
                System.out.flush();
                pairs.put("printed", PRINTED.toString(UTF_8));
                PRINTED.reset();
            }
            final StringBuilder line = new StringBuilder();
            for (final Map.Entry<String, String> pair : pairs.entrySet()) {
                line.append(line.length() == 0 ? "" : "&").append(encode(pair.getKey()))
                    .append('=').append(encode(pair.getValue()));
            }
            answers.write(line.append('\n').toString().getBytes(StandardCharsets.UTF_8));
            answers.flush();
        }
    }

    private static Map<String, String> decode(final String line)
        throws UnsupportedEncodingException
    {
        final Map<String, String> pairs = new LinkedHashMap<>();
        for (final String pair : line.split("&")) {
            final int equals = pair.indexOf('=');
            pairs.put(URLDecoder.decode(pair.substring(0, equals), UTF_8),
                URLDecoder.decode(pair.substring(equals + 1), UTF_8));
        }
        return pairs;
    }

    private static String encode(final String text) throws UnsupportedEncodingException {
        return URLEncoder.encode(text, UTF_8);
    }
}
