import jakarta.activation.DataHandler;
import jakarta.mail.util.ByteArrayDataSource;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.apache.camel.CamelContext;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.impl.DefaultCamelContext;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.*;
import org.openehealth.ipf.commons.ihe.xds.core.requests.DocumentReference;
import org.openehealth.ipf.commons.ihe.xds.core.requests.ProvideAndRegisterDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.QueryRegistry;
import org.openehealth.ipf.commons.ihe.xds.core.requests.RetrieveDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.query.*;
import org.openehealth.ipf.commons.ihe.xds.core.responses.*;

/**
 * Sends documents by ITI-41, finds them by ITI-18 and fetches them by ITI-43 with IPF, and says what
 * came back.
 *
 * <p>Usage: {@code XdsPeer host:port/path repository}. On standard input one line for each document:
 * path, uniqueId, patient, authority, separated by tabs. On standard output {@code sent}, or what
 * went wrong. After {@code sent} it waits for a line: {@code find} when the document can be found,
 * {@code leave} when it never will; after {@code find} it says {@code found}, then {@code same},
 * or what differs. What IPF itself finds wrong in an answer (it validates both directions against
 * the profile) is what went wrong with that document.
 */
public final class XdsPeer {
    private static final Duration UNTIL_FOUND = Duration.ofSeconds(30);
    private final ProducerTemplate line;
    private final String endpoint;
    private final String repository;

    private XdsPeer(ProducerTemplate line, String endpoint, String repository) {
        this.line = line;
        this.endpoint = endpoint;
        this.repository = repository;
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader asked =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (CamelContext context = new DefaultCamelContext()) {
            context.start();
            try (ProducerTemplate line = context.createProducerTemplate()) {
                XdsPeer peer = new XdsPeer(line, arguments[0], arguments[1]);
                for (String each = asked.readLine(); each != null; each = asked.readLine()) {
                    String[] said = each.split("\t");
                    try {
                        peer.converse(Path.of(said[0]), said[1], said[2], said[3], asked);
                    } catch (Exception wrong) {
                        wrong.printStackTrace();
                        say(wrong.toString());
                    }
                }
            }
        }
    }

    private static void say(String word) {
        System.out.println(word.replaceAll("\\s+", " "));
        System.out.flush();
    }

    private void converse(Path path, String uniqueId, String value, String root, BufferedReader asked)
            throws Exception {
        byte[] data = Files.readAllBytes(path);
        Identifiable patient = new Identifiable(value, new AssigningAuthority(root));
        DocumentEntry entry = entry(uniqueId, patient, path.getFileName().toString());
        SubmissionSet set = submissionSet(patient);
        Folder folder = folder(patient);
        Document document =
                new Document(entry, new DataHandler(new ByteArrayDataSource(data, "text/xml")));
        ProvideAndRegisterDocumentSet request =
                ProvideAndRegisterDocumentSet.builderWith(set)
                        .withDocument(document)
                        .withFolder(folder)
                        .withAssociation(member(set.getEntryUuid(), entry.getEntryUuid()))
                        .withAssociation(member(set.getEntryUuid(), folder.getEntryUuid()))
                        .build();
        Response provided = call("xds-iti41", request, Response.class);
        if (provided.getStatus() != Status.SUCCESS) {
            say("ITI-41 " + provided.getStatus() + " " + provided.getErrors());
            return;
        }
        say("sent");
        if (!"find".equals(asked.readLine())) {
            return;
        }
        String difference = found(patient, entry);
        if (difference.isEmpty()) {
            difference = contained(set, entry, folder);
        }
        if (difference.isEmpty()) {
            say("found");
            difference = fetched(uniqueId, data);
        }
        say(difference);
    }

    /** ITI-18: waits until the document is in the record, and compares what is said of it. */
    private String found(Identifiable patient, DocumentEntry sent) throws Exception {
        FindDocumentsQuery query = new FindDocumentsQuery();
        query.setPatientId(patient);
        query.setStatus(List.of(AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED));
        query.setTypeCodes(List.of(sent.getTypeCode()));
        Instant end = Instant.now().plus(UNTIL_FOUND);
        while (Instant.now().isBefore(end)) {
            QueryResponse answer = ask(query);
            for (DocumentEntry each : answer.getDocumentEntries()) {
                if (each.getUniqueId().equals(sent.getUniqueId())) {
                    return compared(sent, each);
                }
            }
            Thread.sleep(100);
        }
        return "ITI-18 does not find it";
    }

    private String compared(DocumentEntry sent, DocumentEntry found) {
        List<String> differences = new ArrayList<>();
        differ(differences, "entryUUID", sent.getEntryUuid(), found.getEntryUuid());
        differ(differences, "title", sent.getTitle(), found.getTitle());
        differ(differences, "comments", sent.getComments(), found.getComments());
        differ(differences, "authors", sent.getAuthors(), found.getAuthors());
        differ(differences, "classCode", sent.getClassCode(), found.getClassCode());
        differ(differences, "formatCode", sent.getFormatCode(), found.getFormatCode());
        differ(differences, "creationTime", sent.getCreationTime(), found.getCreationTime());
        differ(differences, "patientId", sent.getPatientId(), found.getPatientId());
        differ(differences, "language", sent.getLanguageCode(), found.getLanguageCode());
        differ(differences, "repository", repository, found.getRepositoryUniqueId());
        return differences.isEmpty() ? "" : "ITI-18 " + differences;
    }

    private String contained(SubmissionSet set, DocumentEntry entry, Folder folder) throws Exception {
        GetSubmissionSetAndContentsQuery query = new GetSubmissionSetAndContentsQuery();
        query.setUniqueId(set.getUniqueId());
        QueryResponse answer = ask(query);
        List<String> differences = new ArrayList<>();
        differ(differences, "sets", 1, answer.getSubmissionSets().size());
        differ(differences, "documents", 1, answer.getDocumentEntries().size());
        differ(differences, "folders", 1, answer.getFolders().size());
        differ(differences, "memberships", 2, answer.getAssociations().size());
        if (differences.isEmpty()) {
            differ(differences, "set", set.getTitle(), answer.getSubmissionSets().get(0).getTitle());
            differ(differences, "folder", folder.getTitle(), answer.getFolders().get(0).getTitle());
            differ(differences, "folder", folder.getEntryUuid(),
                    answer.getFolders().get(0).getEntryUuid());
        }
        return differences.isEmpty() ? "" : "GetSubmissionSetAndContents " + differences;
    }

    /** ITI-43: the bytes. */
    private String fetched(String uniqueId, byte[] data) throws Exception {
        RetrieveDocumentSet request = new RetrieveDocumentSet();
        request.getDocuments().add(new DocumentReference(repository, uniqueId, null));
        RetrievedDocumentSet answer = call("xds-iti43", request, RetrievedDocumentSet.class);
        if (answer.getStatus() != Status.SUCCESS || answer.getDocuments().size() != 1) {
            return "ITI-43 " + answer.getStatus() + " " + answer.getErrors();
        }
        byte[] back = answer.getDocuments().get(0).getDataHandler().getInputStream().readAllBytes();
        return Arrays.equals(data, back) ? "same" : "ITI-43 other bytes";
    }

    private QueryResponse ask(StoredQuery query) throws Exception {
        QueryResponse answer =
                call("xds-iti18", new QueryRegistry(query, QueryReturnType.LEAF_CLASS), QueryResponse.class);
        if (answer.getStatus() != Status.SUCCESS) {
            throw new IllegalStateException("ITI-18 " + answer.getErrors());
        }
        return answer;
    }

    private <T> T call(String component, Object body, Class<T> kind) throws Exception {
        var exchange = line.request(component + "://" + endpoint + "?audit=false",
                each -> each.getIn().setBody(body));
        if (exchange.getException() != null) {
            throw exchange.getException();
        }
        return exchange.getMessage().getMandatoryBody(kind);
    }

    private static void differ(List<String> into, String name, Object sent, Object found) {
        if (!sent.equals(found)) {
            into.add(name + ": " + sent + " became " + found);
        }
    }

    // --- what is sent ----------------------------------------------------------------------

    private static DocumentEntry entry(String uniqueId, Identifiable patient, String title) {
        DocumentEntry entry = new DocumentEntry();
        entry.setEntryUuid("urn:uuid:" + UUID.randomUUID());
        entry.setUniqueId(uniqueId);
        entry.setPatientId(patient);
        entry.setSourcePatientId(patient);
        entry.setTitle(new LocalizedString(title, "fr-FR", "UTF-8"));
        entry.setComments(new LocalizedString("relu", "fr-FR", "UTF-8"));
        entry.setMimeType("text/xml");
        entry.setCreationTime("20240101120000");
        entry.setLanguageCode("fr-FR");
        entry.getAuthors().add(author());
        entry.setClassCode(code("11", "1.2.250.1.213.1.1.4.1"));
        entry.setFormatCode(code("urn:ihe:x", "1.3.6.1.4.1.19376.1.2.3"));
        entry.setTypeCode(code("11502-2", "2.16.840.1.113883.6.1"));
        entry.setHealthcareFacilityTypeCode(code("SA01", "1.2.250.1.71.4.2.4"));
        entry.setPracticeSettingCode(code("ETABLISSEMENT", "1.2.250.1.213.1.1.4.9"));
        entry.getConfidentialityCodes().add(code("N", "2.16.840.1.113883.5.25"));
        entry.setType(DocumentEntryType.STABLE);
        return entry;
    }

    private static SubmissionSet submissionSet(Identifiable patient) {
        SubmissionSet set = new SubmissionSet();
        set.setEntryUuid("urn:uuid:" + UUID.randomUUID());
        set.assignUniqueId();
        set.setPatientId(patient);
        set.setSourceId("2.999.5");
        set.setSubmissionTime("20240102120000");
        set.setTitle(new LocalizedString("Lot", "fr-FR", "UTF-8"));
        set.setContentTypeCode(code("04", "1.2.250.1.213.2.2"));
        set.setAuthor(author());
        return set;
    }

    private static Folder folder(Identifiable patient) {
        Folder folder = new Folder();
        folder.setEntryUuid("urn:uuid:" + UUID.randomUUID());
        folder.assignUniqueId();
        folder.setPatientId(patient);
        folder.setTitle(new LocalizedString("Suivi", "fr-FR", "UTF-8"));
        folder.setLastUpdateTime("20240102120000");
        folder.getCodeList().add(code("suivi", "2.999.8"));
        return folder;
    }

    private static Author author() {
        Author author = new Author();
        author.setAuthorPerson(new Person(
                new Identifiable("801234560999", new AssigningAuthority("1.2.250.1.71.4.2.1")),
                new XcnName("MARTIN", "Anne", null, null, null, null)));
        return author;
    }

    private static Code code(String value, String scheme) {
        return new Code(value, new LocalizedString(value, "fr-FR", "UTF-8"), scheme);
    }

    private static Association member(String source, String target) {
        Association association = new Association(AssociationType.HAS_MEMBER,
                "urn:uuid:" + UUID.randomUUID(), source, target);
        association.setLabel(AssociationLabel.ORIGINAL);
        return association;
    }
}
