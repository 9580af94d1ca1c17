package cellseg.imagej;

import java.io.File;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** One #@ line: an input or output of a script, with its type, name and attributes. */
class Item {

    private static final List<String> FRACTIONS = Arrays.asList("double", "float");
    private static final List<String> WHOLE =
        Arrays.asList("integer", "int", "long", "short", "byte");
    private static final List<String> KNOWN = Arrays.asList("string", "boolean", "file",
        "imageplus", "ij.imageplus");

    private final String type;
    private final String name;
    private final boolean output;
    private final Map<String, Object> attributes;

    Item(final String type, final String name, final boolean output,
        final Map<String, Object> attributes) throws ProblemException
    {
        this.type = type.toLowerCase(Locale.ROOT).replaceFirst("^java\\.(lang|io)\\.", "");
        this.name = name;
        this.output = output;
        this.attributes = attributes;
        if (!output && !isNumber() && !KNOWN.contains(this.type)) {
            throw new ProblemException("The script asks for " + type + " " + name
                + ", which only Fiji can give.\nUse this command in Fiji.");
        }
    }

    String name() {
        return name;
    }

    boolean isOutput() {
        return output;
    }

    boolean isImage() {
        return type.endsWith("imageplus");
    }

    boolean isNumber() {
        return FRACTIONS.contains(type) || WHOLE.contains(type);
    }

    boolean isWhole() {
        return WHOLE.contains(type);
    }

    boolean isBoolean() {
        return type.equals("boolean");
    }

    boolean isFolder() {
        return type.equals("file") && text("style", "").contains("directory");
    }

    boolean isFile() {
        return type.equals("file") && !isFolder();
    }

    boolean isMessage() {
        return text("visibility", "").equalsIgnoreCase("MESSAGE");
    }

    boolean isHidden() {
        return text("visibility", "").equalsIgnoreCase("INVISIBLE");
    }

    String label() {
        return text("label", name);
    }

    String description() {
        return text("description", "");
    }

    String defaultText() {
        return text("value", isNumber() ? "0" : "");
    }

    /** Gives the texts to choose from; none if any text will do. */
    String[] choices() {
        final Object listed = attributes.get("choices");
        if (!(listed instanceof List)) {
            return new String[0];
        }
        return ((List<?>) listed).toArray(new String[0]);
    }

    private String text(final String attribute, final String otherwise) {
        final Object value = attributes.get(attribute);
        return value == null ? otherwise : value.toString();
    }

    /** Gives a text as a value of this type.
     *
     * @throws ProblemException it is none; says what is needed
     */
    Object value(final String text) throws ProblemException {
        if (isBoolean()) {
            return booleanValue(text);
        }
        if (isNumber()) {
            return numberValue(text);
        }
        return type.equals("file") ? (Object) (text.isEmpty() ? null : new File(text)) : text;
    }

    private Object booleanValue(final String text) throws ProblemException {
        final String word = text.trim().toLowerCase(Locale.ROOT);
        if (word.isEmpty() || word.equals("false") || word.equals("0") || word.equals("no")) {
            return Boolean.FALSE;
        }
        if (word.equals("true") || word.equals("1") || word.equals("yes")) {
            return Boolean.TRUE;
        }
        throw wrong(text, "true or false");
    }

    private Object numberValue(final String text) throws ProblemException {
        try {
            final BigDecimal number = new BigDecimal(text.trim());
            if (!isWhole()) {
                return number.doubleValue();
            }
            return number.intValueExact();
        } catch (final NumberFormatException problem) {
            throw wrong(text, isWhole() ? "a whole number" : "a number");
        } catch (final ArithmeticException problem) {
            throw wrong(text, "a whole number");
        }
    }

    private ProblemException wrong(final String text, final String needed) {
        return new ProblemException(
            label() + " (" + name + ") is \"" + text + "\"; it has to be " + needed + ".");
    }
}
