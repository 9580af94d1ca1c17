package cellseg.imagej;

import ij.gui.GenericDialog;
import ij.plugin.frame.Recorder;

import java.awt.Checkbox;
import java.awt.Choice;
import java.awt.TextField;
import java.math.BigDecimal;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Asks for the inputs of a script in one of ImageJ's dialogs. */
final class ItemDialog {

    private static final int COLUMNS = 24;

    /** With more fields there are two in a row, so that a screen of 768 px shows all. */
    private static final int MANY = 20;

    private final GenericDialog dialog;
    private final Map<Item, Object> fields = new LinkedHashMap<>();
    private final List<Item> items;

    ItemDialog(final String title, final List<Item> items) throws ProblemException {
        dialog = new GenericDialog(title);
        this.items = items;
        final StringBuilder help = new StringBuilder();
        final boolean isLong = items.stream().filter(ItemDialog::isAsked).count() > MANY;
        boolean isSecond = false;
        for (final Item item : items) {
            if (item.isMessage()) {
                dialog.addMessage(item.defaultText());
                isSecond = false;
            } else if (isAsked(item)) {
                final boolean isWide = item.isFolder() || item.isFile();
                if (isSecond && !isWide) {
                    dialog.addToSameRow();
                }
                isSecond = isLong && !isSecond && takesHalfARow(item);
                add(item);
                help.append("<p><b>").append(escape(item.label())).append("</b> (")
                    .append(item.name()).append("): ").append(escape(item.description()))
                    .append("</p>");
            }
        }
        dialog.addHelp("<html><h2>" + escape(title) + "</h2>" + help + "</html>");
    }

    private static boolean isAsked(final Item item) {
        return !item.isOutput() && !item.isImage() && !item.isHidden() && !item.isMessage();
    }

    /** Behind a text field, which ImageJ gives the rest of its row, a second one is not seen. */
    private static boolean takesHalfARow(final Item item) {
        return item.isBoolean() || item.isNumber() || item.choices().length > 0;
    }

    private void add(final Item item) throws ProblemException {
        final String label = item.label();
        final String preset = item.defaultText();
        if (item.isBoolean()) {
            dialog.addCheckbox(label, (Boolean) item.value(preset));
            fields.put(item, dialog.getCheckboxes().lastElement());
        } else if (item.choices().length > 0) {
            dialog.addChoice(label, item.choices(), preset);
            fields.put(item, dialog.getChoices().lastElement());
        } else if (item.isNumber()) {
            final BigDecimal number = new BigDecimal(preset).stripTrailingZeros();
            dialog.addNumericField(label, number.doubleValue(), Math.max(0, number.scale()));
            fields.put(item, dialog.getNumericFields().lastElement());
        } else {
            if (item.isFolder()) {
                dialog.addDirectoryField(label, preset, COLUMNS);
            } else if (item.isFile()) {
                dialog.addFileField(label, preset, COLUMNS);
            } else {
                dialog.addStringField(label, preset, COLUMNS);
            }
            fields.put(item, dialog.getStringFields().lastElement());
        }
    }

    boolean hasFields() {
        return !fields.isEmpty();
    }

    /** Shows the dialog; says whether OK was clicked. */
    boolean isConfirmed() {
        dialog.showDialog();
        return dialog.wasOKed(); // wasCanceled() would throw, and the macro still go on
    }

    /** Gives what was entered, and the defaults of what was not asked.
     *
     * @throws ProblemException what was entered does not fit
     */
    Map<String, Object> values() throws ProblemException {
        final Map<String, Object> values = new LinkedHashMap<>();
        for (final Item item : items) {
            if (item.isOutput() || item.isImage() || item.isMessage()) {
                continue;
            }
            final Object field = fields.get(item);
            if (field instanceof Checkbox) {
                values.put(item.name(), ((Checkbox) field).getState());
            } else if (field instanceof Choice) {
                values.put(item.name(), ((Choice) field).getSelectedItem());
            } else {
                final String text =
                    field == null ? item.defaultText() : ((TextField) field).getText();
                values.put(item.name(), item.value(text));
            }
        }
        return values;
    }

    /** Tells the macro recorder, by the names that Fiji records too. */
    void record(final Map<String, Object> values) {
        for (final Item item : fields.keySet()) {
            final Object value = values.get(item.name());
            Recorder.recordOption(item.name(), value == null ? "" : value.toString());
        }
    }

    private static String escape(final String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;");
    }
}
