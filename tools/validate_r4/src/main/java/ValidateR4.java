import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationResult;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/**
 * Validates FHIR R4 resources with the official validator, offline: the definitions and the code
 * systems are those in the jar, and a code of a system that is not there is no error.
 *
 * <p>Reads one resource a line, {@code key TAB json}; writes per resource one line for each error
 * or fatal message ({@code key TAB place TAB message id TAB message}), and then {@code key TAB done}.
 */
public final class ValidateR4 {
  private ValidateR4() {}

  public static void main(String[] arguments) throws IOException {
    FhirContext context = FhirContext.forR4();
    UnknownCodeSystemWarningValidationSupport unknown =
        new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IValidationSupport.IssueSeverity.WARNING);
    ValidationSupportChain support =
        new ValidationSupportChain(
            new DefaultProfileValidationSupport(context),
            new CommonCodeSystemsTerminologyService(context),
            new InMemoryTerminologyServerValidationSupport(context),
            unknown);
    FhirInstanceValidator module = new FhirInstanceValidator(support);
    module.setAnyExtensionsAllowed(true);
    module.setErrorForUnknownProfiles(false);
    FhirValidator validator = context.newValidator().registerValidatorModule(module);
    BufferedReader input =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      int tab = line.indexOf('\t');
      String key = line.substring(0, tab);
      try {
        ValidationResult result = validator.validateWithResult(line.substring(tab + 1));
        for (SingleValidationMessage found : result.getMessages()) {
          if (found.getSeverity().ordinal() >= ResultSeverityEnum.ERROR.ordinal()) {
            print(output, key, found.getLocationString(), found.getMessageId(), found.getMessage());
          }
        }
      } catch (RuntimeException fault) {
        // The validator itself fell over the resource: no verdict of validity.
        print(output, key, "", "exception", fault.toString());
      }
      output.println(key + "\tdone");
      output.flush();
    }
  }

  private static void print(PrintStream output, String... fields) {
    StringBuilder line = new StringBuilder();
    for (String field : fields) {
      line.append(line.length() > 0 ? "\t" : "");
      line.append(field == null ? "" : field.replaceAll("\\s+", " "));
    }
    output.println(line);
  }
}
