import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.provider.JpaSystemProvider;
import ca.uhn.fhir.jpa.test.config.TestR4Config;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/**
 * HAPI FHIR's JPA server, R4, at http://127.0.0.1:PORT/fhir, its database in memory. Prints "ready"
 * and the port when it takes requests; ends when its standard input does.
 */
public class FhirPeer {
  public static void main(String[] arguments) throws Exception {
    var spring = new AnnotationConfigApplicationContext(TestR4Config.class);
    var settings = spring.getBean(JpaStorageSettings.class);
    // As the project's own starter has it by default.
    settings.setAllowExternalReferences(false);
    settings.setEnforceReferentialIntegrityOnWrite(true);
    settings.setResourceClientIdStrategy(JpaStorageSettings.ClientIdStrategyEnum.ALPHANUMERIC);
    settings.setAutoCreatePlaceholderReferenceTargets(false);

    var rest = new RestfulServer(spring.getBean(FhirContext.class));
    rest.registerProviders(
        spring.getBean("myResourceProvidersR4", ResourceProviderFactory.class).createProviders());
    rest.registerProvider(spring.getBean(JpaSystemProvider.class));
    rest.setDefaultResponseEncoding(EncodingEnum.JSON);

    var server = new Server();
    var connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(arguments.length > 0 ? Integer.parseInt(arguments[0]) : 0);
    server.addConnector(connector);
    var handler = new ServletContextHandler("/");
    handler.addServlet(new ServletHolder(rest), "/fhir/*");
    server.setHandler(handler);
    server.start();
    System.out.println("ready " + connector.getLocalPort());
    System.out.flush();
    while (System.in.read() >= 0) {
      // Whoever started it is still there.
    }
    server.stop();
    System.exit(0);
  }
}
