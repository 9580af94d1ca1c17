package cellseg.imagej;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads the options of a macro's run("Command", "key=value key=[two words] flag").
 *
 * ij.Macro.getValue is not used: it finds "channel=" inside "nuclear_channel=".
 */
final class Options {

    private final String text;
    private int at;

    private Options(final String text) {
        this.text = text;
    }

    /** Gives the value of each input: from the options, else its default. Other keys are left to
     * the script, which sees the options too.
     *
     * @throws ProblemException a value does not fit its input
     */
    static Map<String, Object> values(final List<Item> items, final String options)
        throws ProblemException
    {
        final Map<String, String> given = new Options(options).pairs();
        final Map<String, Object> values = new LinkedHashMap<>();
        for (final Item item : items) {
            if (item.isOutput() || item.isImage() || item.isMessage()) {
                continue;
            }
            String value = given.getOrDefault(item.name(), item.defaultText());
            if (value == null) { // a bare key
                value = item.isBoolean() ? "true" : "";
            }
            values.put(item.name(), item.value(value));
        }
        return values;
    }

    private Map<String, String> pairs() {
        final Map<String, String> found = new LinkedHashMap<>();
        while (skipSpace()) {
            final String key = until("= ");
            String value = null;
            if (at < text.length() && text.charAt(at) == '=') {
                at++;
                value = value();
            }
            found.put(key, value);
        }
        return found;
    }

    private String value() {
        if (at >= text.length() || text.charAt(at) != '[') {
            return until(" ");
        }
        final int start = at + 1;
        int depth = 0;
        do {
            depth += text.charAt(at) == '[' ? 1 : text.charAt(at) == ']' ? -1 : 0;
            at++;
        } while (depth > 0 && at < text.length());
        return text.substring(start, depth == 0 ? at - 1 : at);
    }

    private String until(final String ends) {
        final int start = at;
        while (at < text.length() && ends.indexOf(text.charAt(at)) < 0) {
            at++;
        }
        return text.substring(start, at);
    }

    private boolean skipSpace() {
        while (at < text.length() && text.charAt(at) == ' ') {
            at++;
        }
        return at < text.length();
    }
}
