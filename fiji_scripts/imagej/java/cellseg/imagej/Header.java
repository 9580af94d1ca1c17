package cellseg.imagej;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Reads the #@ lines of a script, as SciJava defines them. */
final class Header {

    private static final Pattern LINE = Pattern.compile(
        "#@\\s*((?i:input|output|both)\\s+)?([\\w.]+)\\s*(?:\\((.*)\\))?\\s+(\\w+)\\s*");
    private static final Pattern OUTPUT = Pattern.compile("#@(?i:output)\\s+(\\w+)\\s*");

    private final String text;
    private int at;

    private Header(final String text) {
        this.text = text;
    }

    /** Gives inputs and outputs in the order of their lines.
     *
     * @throws ProblemException a line is not understood, or is for Fiji only
     */
    static List<Item> parse(final String script) throws ProblemException {
        final List<Item> items = new ArrayList<>();
        for (final String line : script.split("\\R")) {
            if (!line.startsWith("#@") || line.startsWith("#@script")) {
                continue;
            }
            final Matcher untyped = OUTPUT.matcher(line);
            final Matcher typed = LINE.matcher(line);
            if (untyped.matches()) {
                items.add(new Item("object", untyped.group(1), true,
                    new LinkedHashMap<String, Object>()));
            } else if (typed.matches()) {
                final String way = typed.group(1) == null ? "" : typed.group(1).trim();
                final String inside = typed.group(3) == null ? "" : typed.group(3);
                items.add(new Item(typed.group(2), typed.group(4),
                    way.toLowerCase(Locale.ROOT).equals("output"),
                    new Header(inside).attributes()));
            } else {
                throw new ProblemException("This line of the script is not understood:\n" + line);
            }
        }
        return items;
    }

    private Map<String, Object> attributes() throws ProblemException {
        final Map<String, Object> found = new LinkedHashMap<>();
        for (skipSpace(); at < text.length(); skipSpace()) {
            final int equals = text.indexOf('=', at);
            if (equals < 0) {
                throw new ProblemException("An attribute without a value: (" + text + ")");
            }
            final String key = text.substring(at, equals).trim();
            at = equals + 1;
            found.put(key, value());
            skipSpace();
            if (at < text.length() && text.charAt(at) == ',') {
                at++;
            }
        }
        return found;
    }

    private Object value() {
        skipSpace();
        final char first = at < text.length() ? text.charAt(at) : ',';
        if (first == '"' || first == '\'') {
            return quoted(first);
        }
        if (first != '{') {
            return bare(",");
        }
        final List<String> list = new ArrayList<>();
        at++;
        for (skipSpace(); at < text.length() && text.charAt(at) != '}'; skipSpace()) {
            final char next = text.charAt(at);
            list.add(next == '"' || next == '\'' ? quoted(next) : bare(",}"));
            skipSpace();
            if (at < text.length() && text.charAt(at) == ',') {
                at++;
            }
        }
        at++;
        return list;
    }

    private String quoted(final char quote) {
        final StringBuilder inside = new StringBuilder();
        for (at++; at < text.length() && text.charAt(at) != quote; at++) {
            if (text.charAt(at) == '\\' && at + 1 < text.length()) {
                at++;
                inside.append(text.charAt(at) == 'n' ? '\n' : text.charAt(at));
            } else {
                inside.append(text.charAt(at));
            }
        }
        at++;
        return inside.toString();
    }

    private String bare(final String ends) {
        final int start = at;
        while (at < text.length() && ends.indexOf(text.charAt(at)) < 0) {
            at++;
        }
        return text.substring(start, at).trim();
    }

    private void skipSpace() {
        while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
            at++;
        }
    }
}
